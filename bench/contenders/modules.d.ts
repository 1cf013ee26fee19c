/**
 * For the compilation of the whole repository, where these packages are not installed. `bench/contenders/tsconfig.json` leaves
 * this file out: with it the contenders are compiled against the packages' own types when the bench has installed them.
 */
declare module "typeorm-transactional"
declare module "nestjs-cls"
declare module "@nestjs-cls/transactional"
declare module "@nestjs-cls/transactional-adapter-typeorm"
declare module "@nestjs/common"
declare module "@nestjs/core"
