// Sliding window: a row sees the last WINDOW positions, its own included; 0 = all.

/// First position that the row at `position` sees.
fn first_seen(position: u32) -> u32 {
#if WINDOW > 0
  return max(position + 1, WINDOW) - WINDOW;
#else
  return 0u;
#endif
}
