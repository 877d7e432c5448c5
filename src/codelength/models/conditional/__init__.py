"""Systems of p(y | x): a target given real features."""
