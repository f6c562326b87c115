"""SimCLR: views, loss, model, training."""
