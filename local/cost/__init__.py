"""What Landfall costs on AWS, computed from prices, measured figures and the defaults of the template: docs/cost.md."""
