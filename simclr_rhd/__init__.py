"""SimCLR pretraining and linear classification of heart ultrasound frames (rheumatic heart disease)."""

__version__ = "0.1.0"
