"""What the tasks share that predict one vector for a whole image: learner, building, inference."""
