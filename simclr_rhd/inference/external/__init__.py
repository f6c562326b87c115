"""A trained model on another labelled data set."""
