// Of ROWS rows from `row` on: adapter_R, which LoRA adapter the row goes through (0 = none), and leads_R, whether it is the first of them
// that does, so that an adapter is read once for all of them. Ends the thread where none goes through any.
// Needs: `row`, lib/lora.wgsl, constant ROWS.
  var any = 0u;
#for r in 0..ROWS
  let adapter_${r} = adapter_of(row + ${r});
  any |= adapter_${r};
  var leads_${r} = adapter_${r} != 0;
#for q in 0..r
  leads_${r} = leads_${r} && adapter_${q} != adapter_${r};
#endfor
#endfor
  if (any == 0) {
    return;
  }
