import path from 'node:path';
import { JsonReporter, type SerializedError, type TestModule } from 'vitest/node';
import type { Failure } from './test-failures.ts';

/**
 * vitest's JSON report with `failures`: all that failed, the errors of files, of groups' hooks and of no test at all among them, which
 * the report alone leaves out, as it does the message of a test that ran out of time.
 */
export default class WholeReport extends JsonReporter {
  #failures: readonly Failure[] = [];

  override async onTestRunEnd(
    modules: readonly TestModule[],
    unhandled: readonly SerializedError[] = [],
  ): Promise<void> {
    this.#failures = [...modules.flatMap(failuresOf), ...unhandled.map(stray)];
    await super.onTestRunEnd(modules);
  }

  override writeReport(report: string): Promise<void> {
    return super.writeReport(JSON.stringify({ ...JSON.parse(report), failures: this.#failures }));
  }
}

function failuresOf(module: TestModule): Failure[] {
  const failure = (title: string, { message, stacks }: SerializedError): Failure => {
    const line = stacks?.find(({ file }) => file === module.moduleId)?.line;
    return { file: relative(module.moduleId), line: line ?? null, title, message };
  };
  return [
    ...module.errors().map((error) => failure('', error)),
    ...[...module.children.allSuites()].flatMap((suite) =>
      suite.errors().map((error) => failure(suite.fullName, error)),
    ),
    ...[...module.children.allTests('failed')].flatMap((test) =>
      (test.result().errors ?? []).map((error) => failure(test.fullName, error)),
    ),
  ];
}

/** A rejection that nobody handled, or a worker that died; the file is the one that ran then. */
function stray(error: SerializedError): Failure {
  const { VITEST_TEST_PATH: file, VITEST_TEST_NAME: test, message } = error;
  const title = `an error outside all tests${typeof test === 'string' ? `, while or after "${test}" ran` : ''}`;
  return { file: typeof file === 'string' ? relative(file) : '', line: null, title, message };
}

const relative = (file: string) => path.relative(process.cwd(), file);
