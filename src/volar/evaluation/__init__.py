"""Records, statistics and the page that shows them. Sees Actors and records, never model code."""
