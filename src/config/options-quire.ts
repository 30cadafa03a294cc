import { Role } from '../protocol/messages.ts';
import {
  choice,
  decimal,
  type Kind,
  list,
  matching,
  nodeRoles,
  onOff,
  optionalText,
  optionalWhole,
  whole,
} from './kinds.ts';
import { option } from './option.ts';

/** What a header can carry: a key of other characters could never be sent. */
export const SENDABLE_KEY = /^[\x21-\x7e]{1,4096}$/;
const KEY = matching('KEY', 'visible ASCII characters', SENDABLE_KEY);
const METHOD = matching('METHOD', 'a method in capitals, such as POST, or *', /^(\*|[A-Z]{1,32})$/);
const HEADER = matching('HEADER', 'the name of a header, or *', /^[\w!#$%&'*+.^`|~-]{1,128}$/);
const ADMIN_KEY: Kind<string | null> = KEY;
const ORIGIN = matching(
  'ORIGIN',
  'an origin as browsers write it, such as https://example.org (no path), or *',
  /^(\*|[a-z][a-z\d+.-]*:\/\/[^\s/?#A-Z]+)$/,
);
const HOST = matching('HOST', 'a host name or address', /^([\w.-]+|\[?[\da-f:.]+\]?)$/i);

/** An origin, or a whole join link. */
const HUB_URL: Kind<string | null> = matching(
  'URL',
  'the address of a hub, such as https://192.168.1.5:8080 or its join link',
  /^https?:\/\/[^\s/?#@]+\/?(#join=[^\s#]+)?$/,
);
const FINGERPRINT: Kind<string | null> = matching('SHA256', '32 bytes in hex', /^([\da-f]{2}:?){31}[\da-f]{2}$/i);

/** Options of Quire itself; `QUIRE_*` variables stand in the place of Dynamo's `DYN_VLLM_*`. */
export const quireOptions = {
  nodes: option({
    group: 'Quire',
    kind: nodeRoles,
    default: [null],
    defaultText: '1',
    env: 'QUIRE_NODES',
    where: 'hub',
    help: 'Headless browser nodes that the hub starts itself: so many, or so many of each role, as in prefill=1,decode=2.',
  }),
  chromium: option({
    group: 'Quire',
    kind: optionalText('FILE'),
    default: null,
    defaultText: "Playwright's, then chromium, google-chrome, chrome, msedge",
    env: 'QUIRE_CHROMIUM',
    where: 'hub',
    help: 'Browser for the headless nodes.',
  }),
  yes: option({
    group: 'Quire',
    kind: onOff,
    default: false,
    env: 'QUIRE_YES',
    where: 'hub',
    help: 'Install Chromium without asking where there is none. CI=true does the same.',
  }),
  'api-key': option({
    group: 'Quire',
    kind: list(KEY, ','),
    default: [],
    defaultText: 'none; made and printed when --http-host is not loopback',
    env: 'QUIRE_API_KEY',
    where: 'hub',
    help: 'Key that callers of /v1 send as Authorization: Bearer KEY. Repeatable.',
  }),
  'api-key-file': option({
    group: 'Quire',
    kind: optionalText('FILE'),
    default: null,
    env: 'QUIRE_API_KEY_FILE',
    where: 'hub',
    help: 'File with more such keys, one a line; lines that begin with # are none.',
  }),
  'admin-key': option({
    group: 'Quire',
    kind: ADMIN_KEY,
    default: null,
    defaultText: 'none: admin calls come from this machine only',
    env: 'QUIRE_ADMIN_KEY',
    where: 'hub',
    help: 'Key that admin calls, such as POST /reset_prefix_cache, send as Authorization: Bearer KEY, from wherever they come. No API key does.',
  }),
  'request-timeout': option({
    group: 'Quire',
    kind: optionalWhole(1, 604_800),
    default: null,
    defaultText: 'as long as it takes',
    env: 'QUIRE_REQUEST_TIMEOUT',
    where: 'hub',
    help: 'Most seconds of an API request; its own header x-request-timeout may say less.',
  }),
  'sse-keep-alive': option({
    group: 'Quire',
    kind: whole(0, 3600),
    default: 15,
    env: 'QUIRE_SSE_KEEP_ALIVE',
    where: 'hub',
    help: 'Seconds of silence, such as that of a long prompt, after which a streamed answer gets a comment, lest a proxy takes it for dead. 0 = never.',
  }),
  'join-token': option({
    group: 'Quire',
    kind: optionalText('TOKEN'),
    default: null,
    defaultText: 'none; made and printed when --http-host is not loopback',
    env: 'QUIRE_JOIN_TOKEN',
    where: 'hub',
    help: 'Token that a page needs to join; it travels in the fragment of the join link.',
  }),
  'allowed-origins': option({
    group: 'Quire',
    kind: list(ORIGIN, ','),
    default: [],
    defaultText: "the hub's own",
    env: 'QUIRE_ALLOWED_ORIGINS',
    where: 'hub',
    help: "Origins besides the hub's own whose pages may call it, such as https://example.org. Repeatable.",
  }),
  'allow-credentials': option({
    group: 'Quire',
    kind: onOff,
    default: false,
    where: 'hub',
    help: 'Let pages of --allowed-origins send credentials of the browser (CORS). API keys need it not.',
  }),
  'allowed-methods': option({
    group: 'Quire',
    kind: list(METHOD, ','),
    default: ['GET', 'HEAD', 'POST', 'DELETE'],
    where: 'hub',
    help: 'Methods that pages of --allowed-origins may use; * = all. Repeatable.',
  }),
  'allowed-headers': option({
    group: 'Quire',
    kind: list(HEADER, ','),
    default: ['*'],
    where: 'hub',
    help: 'Headers that pages of --allowed-origins may send; * = all. Repeatable.',
  }),
  'allowed-hosts': option({
    group: 'Quire',
    kind: list(HOST, ','),
    default: [],
    defaultText: "localhost, --http-host and, where that is a wildcard, this machine's names and addresses",
    env: 'QUIRE_ALLOWED_HOSTS',
    where: 'hub',
    help: 'Host names besides those under which the hub may be called. Repeatable.',
  }),
  tls: option({
    group: 'Quire',
    kind: choice('off', 'self-signed'),
    default: 'off',
    env: 'QUIRE_TLS',
    where: 'hub',
    help: 'self-signed: https with a certificate made at start, whose fingerprint is printed.',
  }),
  'log-level': option({
    group: 'Quire',
    kind: choice('debug', 'info', 'warn', 'error'),
    default: 'warn',
    env: 'QUIRE_LOG_LEVEL',
    where: 'hub',
    help: 'Least weight of the lines (JSON) that the hub logs to standard error; debug has one for each request.',
  }),
  'disaggregation-mode': option({
    group: 'Quire',
    kind: choice(...Role.options),
    default: 'agg',
    env: 'QUIRE_DISAGGREGATION_MODE',
    where: 'both',
    help: "A node's role: prefill computes prompts for decode nodes, decode computes answers (and prompts where that is faster), agg does both on its own.",
  }),
  'kv-transfer-timeout': option({
    group: 'Quire',
    kind: decimal(0.1, 3600),
    default: 5,
    env: 'QUIRE_KV_TRANSFER_TIMEOUT',
    where: 'hub',
    help: 'Seconds without progress after which a decode node gives up a transfer and computes the prompt itself.',
  }),
  'remote-prefill-min-tokens': option({
    group: 'Quire',
    kind: optionalWhole(0, 16_777_216),
    default: null,
    defaultText: 'by measured rates',
    env: 'QUIRE_REMOTE_PREFILL_MIN_TOKENS',
    where: 'hub',
    help: 'Prompt tokens not in the cache of the decode node from which a prefill node computes the prompt.',
  }),
  'batch-invariant': option({
    group: 'Quire',
    kind: onOff,
    default: true,
    env: 'QUIRE_BATCH_INVARIANT',
    where: 'both',
    help: "A token's logits do not depend on what runs beside it, bit for bit. Without it a GPU's matrix instructions are used where the browser has them.",
  }),
  headless: option({
    group: 'Quire',
    kind: onOff,
    default: false,
    env: 'QUIRE_HEADLESS',
    where: 'both',
    help: "On a page: nobody looks, so draw little. On the command line: nodes without the hub's API, for the hub at --hub-url.",
  }),
  'hub-url': option({
    group: 'Quire',
    kind: HUB_URL,
    default: null,
    env: 'QUIRE_HUB_URL',
    where: 'hub',
    help: 'With --headless: the hub that the nodes join; its join link, as it printed it, brings the join token along.',
  }),
  'hub-fingerprint': option({
    group: 'Quire',
    kind: FINGERPRINT,
    default: null,
    env: 'QUIRE_HUB_FINGERPRINT',
    where: 'hub',
    help: "With --headless: SHA-256 of that hub's certificate, as it printed it, where nobody signed the certificate.",
  }),
  'allow-software-adapter': option({
    group: 'Quire',
    kind: onOff,
    default: false,
    where: 'page',
    help: 'Lend a software adapter too, which is far slower than a GPU.',
  }),
};
