"""Context attribution against planted truth, simulations and the context-cite package."""
