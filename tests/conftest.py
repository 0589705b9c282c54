from hypothesis import settings

# few examples and no deadline: the suite must be quick and steady on a two-core machine
settings.register_profile("default", max_examples=60, deadline=None)
settings.load_profile("default")
