"""Output, plots and checks of the channel commands."""
