"""Linear heads on frozen features, their baselines, fine-tuning."""
