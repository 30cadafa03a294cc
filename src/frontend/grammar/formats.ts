const HEX = '[0-9a-fA-F]';
const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
// February ends with the 28th: a day that is not in every year is left out.
const DAY =
  '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))';
const DATE = `\\d{4}-${DAY}`;
// No leap seconds: whether there was one is not for a pattern to say.
const TIME = '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)';
const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';

// RFC 6901, of characters that need no escape in JSON; ~ stands before 0 or 1 alone.
const POINTER = '(?:/(?:[ !#-.0-\\[\\]-}]|~[01]){0,40}){0,8}';

/** Formats of strings (JSON Schema 2020-12, validation, section 7.3), as patterns that allow nothing else; they need not allow all of it. */
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  duration:
    'P(?:\\d{1,4}W|\\d{1,4}D|\\d{1,4}Y\\d{1,2}M\\d{1,2}D|(?:\\d{1,4}D)?T\\d{1,4}(?:H\\d{1,2}M\\d{1,2}S|M\\d{1,2}S|S))',
  email: `[a-zA-Z0-9_+-]{1,20}(?:\\.[a-zA-Z0-9_+-]{1,20}){0,2}@${LABEL}(?:\\.${LABEL}){0,2}\\.[a-zA-Z]{2,10}`,
  hostname: `${LABEL}(?:\\.${LABEL}){0,2}`,
  ipv4: `${OCTET}(?:\\.${OCTET}){3}`,
  ipv6: `${HEX}{1,4}(?::${HEX}{1,4}){7}`,
  uri: `https?://${LABEL}(?:\\.${LABEL}){0,2}(?::[1-9]\\d{0,3})?(?:/[a-zA-Z0-9._~-]{0,40}){0,8}(?:\\?[a-zA-Z0-9._~&=-]{0,80})?(?:#[a-zA-Z0-9._~-]{0,40})?`,
  'uri-reference': '(?:/[a-zA-Z0-9._~-]{1,40}){1,8}(?:\\?[a-zA-Z0-9._~&=-]{0,80})?(?:#[a-zA-Z0-9._~-]{0,40})?',
  'json-pointer': POINTER,
  'relative-json-pointer': `(?:0|[1-9]\\d{0,8})(?:#|${POINTER})`,
  uuid: `${HEX}{8}-${HEX}{4}-[1-5]${HEX}{3}-[89abAB]${HEX}{3}-${HEX}{12}`,
};

/** The pattern of a format; null where there is none. */
export function formatOf(name: string): string | null {
  return Object.hasOwn(FORMATS, name) ? (FORMATS[name] as string) : null;
}
