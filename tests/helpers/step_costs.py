"""Costs of training steps that are made up."""

from simclr_rhd.planning.step_cost import StepCost

COST = StepCost(
    parameters=10,
    weights=80,
    optimizer=80,
    fixed=1 << 28,
    per_pair=1 << 24,
    pair_s=0.01,
    frame_s=0.002,
)
