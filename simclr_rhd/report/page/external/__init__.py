"""The page, the summary and the model card of an evaluation on another data set."""
