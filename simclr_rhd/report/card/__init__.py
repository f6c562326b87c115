"""The model card, and its front matter for model hubs."""
