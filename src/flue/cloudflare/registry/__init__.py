"""The one object that knows where every run is: what is asked of it, and how objects keep it up to date."""
