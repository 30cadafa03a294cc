/** Value of one series of a server's metrics, by its name and labels; undefined where it is not there. */
export async function seriesValue(url: string, series: string): Promise<number | undefined> {
  const line = (await lines(url)).find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

/** Sum of a metric's series whose labels hold this text. */
export async function seriesSum(url: string, name: string, labels: string): Promise<number> {
  const own = (await lines(url)).filter((line) => line.startsWith(`${name}{`) && line.includes(labels));
  return own.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** By a connection of its own, which is gone afterwards: some tests count those of a server. */
async function lines(url: string): Promise<string[]> {
  return (await (await fetch(`${url}/metrics`, { headers: { connection: 'close' } })).text()).split('\n');
}
