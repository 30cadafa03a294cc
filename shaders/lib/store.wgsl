// How a matrix product's sum becomes an output: + bias[column] when BIAS, then + the old value when ACCUMULATE.
// Needs: binding `out`, constants BIAS, ACCUMULATE. Binding: 4 bias (when BIAS).
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>;
#endif

fn store(at: u32, column: u32, sum: f32) {
  var value = sum;
#if BIAS
  value += bias[column];
#endif
#if ACCUMULATE
  value += out[at];
#endif
  out[at] = value;
}
