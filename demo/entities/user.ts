import { PrimaryGuid } from "routing-controllers-typeorm"
import { Column, Entity } from "typeorm"

@Entity()
export class User {
  @PrimaryGuid()
  id!: string

  @Column()
  name!: string
}
