import { networkInterfaces } from 'node:os';
import { lanAddresses } from '../../src/hub/launch/network.ts';
import { selfSigned } from '../../src/hub/launch/tls.ts';
import { BROWSER, expect, expectStage, test } from './fixture.ts';

test.use({ ...BROWSER, ignoreHTTPSErrors: true });

test('a page joins over https on an address that is not loopback', async ({ startTestHub, page }) => {
  const address = lanAddresses(networkInterfaces())[0];
  if (address === undefined) throw new Error('This machine has no address but loopback: connect it to a network.');
  const tls = await selfSigned(['localhost', address], new Date());
  const { hub } = await startTestHub({ host: '0.0.0.0', tls, allowedHosts: [address], joinToken: 'lan-ticket' });
  await page.goto(`https://${address}:${hub.port}/?allow-software-adapter#join=lan-ticket`);
  await expectStage(page, 'ready');
  expect(await page.evaluate(() => isSecureContext)).toBe(true);
  expect(hub.state().nodes).toMatchObject([{ stage: 'ready' }]);
});

test('plain http from another machine is told of https and of ssh', async ({ startTestHub, page }) => {
  const address = lanAddresses(networkInterfaces())[0];
  if (address === undefined) throw new Error('This machine has no address but loopback: connect it to a network.');
  const { hub } = await startTestHub({ host: '0.0.0.0', allowedHosts: [address] });
  await page.goto(`http://${address}:${hub.port}/`);
  const notice = page.getByTestId('capability');
  await expect(notice).toContainText('--tls self-signed');
  await expect(notice).toContainText(`ssh -L ${hub.port}:127.0.0.1:${hub.port} ${address}`);
  expect(hub.state().nodes).toEqual([]);
});
