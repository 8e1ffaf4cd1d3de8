"""Which demonstrations to learn from: scores of episodes that need no policy of ours, and how to choose by them."""
