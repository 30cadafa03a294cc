// K and V of one KV head at one position, as attention reads them: numbers by pairs and eights of dimensions.
// DTYPE 3: `stored_` gives integers, to be multiplied by the head's scale; the others have it in them, which rounds nothing
// (lib/kv_int8.wgsl): so that sums of the same numbers in the same order are the same bits, whichever kernel takes them.
// Needs: what lib/kv.wgsl needs. Bindings: 3 kPool; 4 vPool.
#include "lib/dtype.wgsl"
#include "lib/kv.wgsl"
#if DTYPE == 3
#include "lib/kv_int8.wgsl"

@group(0) @binding(3) var<storage, read> k_pool: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> v_pool: array<vec2<u32>>;

struct KvHead {
  word: u32,
  key_scale: f32,
  value_scale: f32,
}

fn kv_head(slot: u32, position: u32, head: u32) -> KvHead {
  let place = kv_place(slot, position, head);
  let word = place.scale / 2;
  let shift = place.scale % 2 * 16;
  return KvHead(
    place.word,
    scale_from((k_pool[word / 2][word % 2] >> shift) & 0xffffu),
    scale_from((v_pool[word / 2][word % 2] >> shift) & 0xffffu),
  );
}

fn stored_key(head: KvHead, eight: u32) -> Eight {
  let words = k_pool[head.word / 2 + eight];
  return Eight(signed_bytes(words.x), signed_bytes(words.y));
}

fn stored_value(head: KvHead, eight: u32) -> Eight {
  let words = v_pool[head.word / 2 + eight];
  return Eight(signed_bytes(words.x), signed_bytes(words.y));
}

fn key_scale(head: KvHead) -> f32 {
  return head.key_scale;
}

fn value_scale(head: KvHead) -> f32 {
  return head.value_scale;
}

fn key_eight(head: KvHead, eight: u32) -> Eight {
  let q = stored_key(head, eight);
  return Eight(q.low * head.key_scale, q.high * head.key_scale);
}

fn value_eight(head: KvHead, eight: u32) -> Eight {
  let q = stored_value(head, eight);
  return Eight(q.low * head.value_scale, q.high * head.value_scale);
}

fn value_pair(head: KvHead, pair: u32) -> vec2<f32> {
  let word = head.word + pair / 2;
  let q = signed_bytes(v_pool[word / 2][word % 2] >> (pair % 2 * 16));
  return q.xy * head.value_scale;
}
#else

@group(0) @binding(3) var<storage, read> k_pool: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> v_pool: array<vec4<u32>>;

struct KvHead {
  word: u32,
}

fn kv_head(slot: u32, position: u32, head: u32) -> KvHead {
  return KvHead(kv_place(slot, position, head).word);
}

fn key_eight(head: KvHead, eight: u32) -> Eight {
#if DTYPE == 0
  return unpack_eight(k_pool[head.word / 4 + 2 * eight], k_pool[head.word / 4 + 2 * eight + 1]);
#else
  return unpack_eight(k_pool[head.word / 4 + eight]);
#endif
}

fn value_eight(head: KvHead, eight: u32) -> Eight {
#if DTYPE == 0
  return unpack_eight(v_pool[head.word / 4 + 2 * eight], v_pool[head.word / 4 + 2 * eight + 1]);
#else
  return unpack_eight(v_pool[head.word / 4 + eight]);
#endif
}

fn value_pair(head: KvHead, pair: u32) -> vec2<f32> {
#if DTYPE == 0
  let word = head.word + 2 * pair;
  return bitcast<vec2<f32>>(vec2(v_pool[word / 4][word % 4], v_pool[word / 4][word % 4 + 1]));
#else
  let word = head.word + pair;
  return unpack_pair(v_pool[word / 4][word % 4]);
#endif
}

fn stored_key(head: KvHead, eight: u32) -> Eight {
  return key_eight(head, eight);
}

fn stored_value(head: KvHead, eight: u32) -> Eight {
  return value_eight(head, eight);
}

fn key_scale(head: KvHead) -> f32 {
  return 1.0;
}

fn value_scale(head: KvHead) -> f32 {
  return 1.0;
}
#endif
