// What TypeScript does not see in us43d/view/page: a parameter named like a constant of its module hides it.
export default [
  {
    files: ['us43d/view/page/*.js'],
    rules: {
      'no-shadow': ['error', { hoist: 'all' }],
      'no-useless-assignment': 'error',
      'no-unused-expressions': ['error', { allowTernary: true }],
      'prefer-const': 'error',
      'no-var': 'error',
      eqeqeq: 'error',
      // Names and keys of a data set are never parsed as HTML.
      'no-restricted-properties': ['error', { property: 'innerHTML' }, { property: 'outerHTML' }, { property: 'insertAdjacentHTML' }],
    },
  },
];
