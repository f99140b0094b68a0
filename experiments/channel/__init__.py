"""What the channel commands show and draw."""
