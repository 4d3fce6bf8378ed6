"""Stories told in order: what workers and couriers do with studies, results and deliveries."""
