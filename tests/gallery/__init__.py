"""`make gallery`: one of each kind of result, for five kinds of source, with pictures to look at."""
