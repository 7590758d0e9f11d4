// Before the first paint, so that a page chosen dark is never shown light.
const chosen = localStorage.getItem('us43d-theme');
if (chosen) document.documentElement.dataset.theme = chosen;
