import type { DiscoveryRecord } from '../discovery/store.ts';
import { type EndpointName, hex, pathOf } from './names.ts';

/** One endpoint of a worker, and where it is served. */
export interface Instance extends EndpointName {
  readonly instance: number;
  /** `IP:port` of the request plane. */
  readonly address: string;
}

/** What a publisher's messages are of. */
export interface Publisher {
  readonly id: number;
  /** The worker's endpoint whose nodes it tells of. */
  readonly of: Instance;
  readonly topic: 'kv-events' | 'kv_metrics';
  /** Where the PUB socket is, e.g. `tcp://192.0.2.7:20081`. */
  readonly zmqEndpoint: string;
}

function instanceValue({ namespace, component, endpoint, instance, address }: Instance) {
  return {
    ...{ component, endpoint, namespace },
    instance_id: instance,
    transport: { tcp: `${address}/${pathOf(instance, endpoint)}` },
    request_plane_codec: 'json',
  };
}

const keyOf = ({ namespace, component, endpoint, instance }: Instance) =>
  `${namespace}/${component}/${endpoint}/${hex(instance)}`;

/** Says where an endpoint of a worker takes requests. */
export function instanceRecord(instance: Instance): DiscoveryRecord {
  return {
    bucket: 'v1/instances',
    key: keyOf(instance),
    value: { type: 'Endpoint', ...instanceValue(instance) },
  };
}

/** Says which model an endpoint answers with. */
export function modelRecord(instance: Instance, card: object): DiscoveryRecord {
  const { namespace, component, endpoint, instance: instance_id } = instance;
  return {
    bucket: 'v1/mdc',
    key: keyOf(instance),
    value: { type: 'Model', namespace, component, endpoint, instance_id, card_json: card },
  };
}

const stateEndpoint = ({ of: { namespace, component, endpoint } }: Publisher) => ({
  ...{ namespace, component },
  name: endpoint,
});

const topicKey = ({ id, topic, of: { namespace, component, endpoint } }: Publisher) =>
  `namespace/${namespace}/component/${component}/endpoint/${endpoint}/topic/${topic}/${hex(id)}`;

/** Says where a publisher's messages come from. */
export function channelRecord(publisher: Publisher): DiscoveryRecord {
  const { id, topic, zmqEndpoint } = publisher;
  return {
    bucket: 'v1/event_channels',
    key: topicKey(publisher),
    value: {
      type: 'EventChannel',
      scope: { kind: 'endpoint', endpoint: stateEndpoint(publisher) },
      topic,
      instance_id: id,
      transport: { kind: 'Zmq', config: { endpoint: zmqEndpoint } },
    },
  };
}

/** Says whose prefix cache a publisher tells of, and where the whole of it can be asked for. */
export function sourceRecord(publisher: Publisher, rank: number, recovery: Instance): DiscoveryRecord {
  const { id, topic, of } = publisher;
  return {
    bucket: 'v1/event_sources',
    key: topicKey(publisher),
    value: {
      type: 'EventSource',
      scope: { kind: 'endpoint', endpoint: stateEndpoint(publisher) },
      topic,
      publisher_id: id,
      metadata: {
        kv_state_endpoint: stateEndpoint(publisher),
        worker: { worker_id: of.instance, dp_rank: rank },
        publisher_id: id,
        recovery_target: instanceValue(recovery),
      },
    },
  };
}
