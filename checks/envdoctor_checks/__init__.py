"""The checks that come with envdoctor: plugins like anybody's, found by their entry points."""
