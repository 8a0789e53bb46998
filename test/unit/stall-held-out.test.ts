/** The goal of `streams` with every store, on the held-out traces (store-goal.ts). */
import { testStores } from './store-goal.js';

testStores('held-out');
