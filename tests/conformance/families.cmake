conformance_test(
  open_test
  rw_test
  stat_test
  signal_test
  fork_wait_test)
