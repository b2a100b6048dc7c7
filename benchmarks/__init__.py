"""What the documentation's figures are measured with; run from the repository root."""
