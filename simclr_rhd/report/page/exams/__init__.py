"""The page of `predict`: each exam with its probabilities, frames and limits."""
