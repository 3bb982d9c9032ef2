"""Local environment: the product on one machine, without AWS or Stripe accounts (`make run`)."""
