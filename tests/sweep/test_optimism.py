"""What docs/sweep.md says about the value of the best trial, simulated."""

from benchmarks.sweep_optimism import optimism


def test_the_value_that_selected_the_best_trial_is_optimistic_and_that_on_other_images_is_not() -> None:
    found = optimism(images=100, sweeps=300)
    assert found.selected_error > 5 and found.selected_coverage < 0.5
    assert abs(found.reported_error) < 0.8, "its standard error is 0.23 points"
    assert 0.90 < found.reported_coverage < 0.98, "nominally 95 %; the standard error is 1.3 %"
