"""What is kept: instances, index, jobs, deliveries, ledger, audit."""
