/** The goal of `streams` with every store, on the recorded traces of the tuning half (store-goal.ts). */
import { testStores } from './store-goal.js';

testStores('tuning');
