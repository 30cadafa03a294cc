// How the sums of one tile of positions join those of the tiles before it (online softmax; Milakov and Gimelshein 2018,
// https://arxiv.org/abs/1805.02867). A tile's sums are relative to its own largest score, so that tiles can be summed apart and in any
// order; they are always joined ascending.

/// Positions of a tile, at absolute multiples.
const TILE = 64u;

/// What positions so far give: the largest score, the sum of weights, and the sum of weighted values of one pair of dimensions.
struct Attended {
  top: f32,
  weights: f32,
  sum: vec2<f32>,
}

/// The larger of two largest scores, and what the sums of either are multiplied by to be relative to it.
struct Join {
  top: f32,
  shrink: f32,
  grow: f32,
}

fn join_of(before: f32, tile: f32) -> Join {
  let top = max(before, tile);
  return Join(top, exp(before - top), exp(tile - top));
}

fn joined(before: Attended, tile: Attended) -> Attended {
  let join = join_of(before.top, tile.top);
  return Attended(
    join.top,
    fma(tile.weights, join.grow, before.weights * join.shrink),
    fma(tile.sum, vec2(join.grow), before.sum * join.shrink),
  );
}
