"""Labels of what a policy is to tell itself, made from what an episode did: no annotator, no model."""
