"""The weights that come with us43d, with card, credits, configuration and log; see `us43d.model.weights.shipped`."""
