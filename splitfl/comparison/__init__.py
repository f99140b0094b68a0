"""Methods side by side on the same experiment: who can take part, what each costs, how good each becomes."""
