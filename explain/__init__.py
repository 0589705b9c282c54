"""What of a case matters, and the way from the earlier estimator's numbers to ours."""
