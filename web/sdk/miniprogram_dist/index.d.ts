export * from '../dist/index'
