/** The thread that run-files.ts hands scripts to: a file name in, its result out. */

import { parentPort, workerData } from 'node:worker_threads';
import { runFile, type SuiteOptions } from './run-one.js';

const options = workerData as SuiteOptions;
parentPort!.on('message', (file: string) => parentPort!.postMessage(runFile(file, options)));
