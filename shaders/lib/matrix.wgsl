// Matrices that a subgroup of 32 multiplies at once: 16 x 16, operands f16, sums f32. In memory: eight f16 in four words.
// Needs: lib/dtype.wgsl (Eight), the directives of the files that include this.
const MATRIX = 16u;
alias Left = subgroup_matrix_left<f16, MATRIX, MATRIX>;
alias Right = subgroup_matrix_right<f16, MATRIX, MATRIX>;
alias Sum = subgroup_matrix_result<f32, MATRIX, MATRIX>;

/// Eight numbers as f16. Larger ones would become infinite.
fn halves(numbers: Eight) -> vec4<u32> {
  let low = clamp(numbers.low, vec4(-65504.0), vec4(65504.0));
  let high = clamp(numbers.high, vec4(-65504.0), vec4(65504.0));
  return vec4(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
