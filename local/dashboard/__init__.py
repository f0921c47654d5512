"""The picture of the dashboard in the documents."""
