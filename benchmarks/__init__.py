"""What the figures come from: ratios measured in one run, side by side. See README.md here."""
