// act = silu(x) = x / (1 + exp(-x)), or where GELU gelu_tanh(x) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
// (0.5 x (1 + tanh(u)), rewritten by tanh(u) = 2 / (1 + exp(-2u)) - 1).
fn activate(x: f32) -> f32 {
#if GELU
  let exponent = -1.5957691216057308 * (x + 0.044715 * x * x * x);
#else
  let exponent = -x;
#endif
  // Past 80 the quotient is 0 in all but name; the bound keeps exp finite.
  return x / (1.0 + exp(min(exponent, 80.0)));
}
