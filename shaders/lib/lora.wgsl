// Which LoRA adapter a row goes through.
// Needs: bindings `rows` (slot, position, token, active) and `slots`, constants SLOT_STRIDE and SLOT_LORA of tables.ts.

/// Its place in the adapters' buffers plus 1; 0 = none, or a row that is not in use.
fn adapter_of(row: u32) -> u32 {
  let resolved = rows[row];
  return select(0u, slots[resolved.x * SLOT_STRIDE + SLOT_LORA], resolved.w != 0);
}
