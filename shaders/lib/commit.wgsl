// Commit of a sampled token to its slot: history, length, counts, and the done flag at a stop id or the slot's last token.
// Needs: bindings `slots`, `history`, `counts` (read_write), constants of tables.ts.

/// `length`: tokens of the slot before this one. Returns whether the slot is done.
fn commit(slot: u32, id: u32, length: u32) -> bool {
  let at = slot * SLOT_STRIDE;
  history[slot * MAX_LEN + length] = id;
  slots[at + SLOT_LENGTH] = length + 1u;
  counts[slot * VOCAB + id] += 1u;
  var done = length + 1u >= slots[at + SLOT_MAX_LENGTH];
  for (var s = 0u; s < slots[at + SLOT_NUM_STOPS]; s++) {
    done |= slots[at + SLOT_STOPS + s] == id;
  }
  if (done) {
    slots[at + SLOT_DONE] = 1u;
  }
  return done;
}
