import { IsInt, IsString, IsUUID, Length, Max, Min } from "class-validator"
import {
  Body,
  Delete,
  Get,
  HttpCode,
  JsonController,
  NotFoundError,
  OnUndefined,
  Params,
  Post,
  QueryParams,
} from "routing-controllers"
import { Session } from "routing-controllers-typeorm"
import { Service } from "typedi"
import { User } from "../entities/user"

class UserParams {
  @IsUUID()
  userId!: string
}

class NewUser {
  @IsString()
  @Length(1, 100)
  name!: string
}

class Page {
  @IsInt()
  @Min(1)
  page = 1

  @IsInt()
  @Min(1)
  @Max(100)
  size = 20
}

@Service()
@JsonController()
export class UserController {
  @Get("/:userId")
  async getUserName(@Session() db: Session, @Params() { userId }: UserParams): Promise<string> {
    const user = await db.findOneByOrFail(User, { id: userId })
    return user.name
  }

  @Get("/")
  async listUsers(@Session() db: Session, @QueryParams() { page, size }: Page): Promise<User[]> {
    return db.find(User, { order: { name: "ASC", id: "ASC" }, skip: (page - 1) * size, take: size })
  }

  @Post("/")
  @HttpCode(201)
  async createUser(@Session() db: Session, @Body() { name }: NewUser): Promise<User> {
    return db.save(User, { name })
  }

  @Delete("/:userId")
  @OnUndefined(204)
  async deleteUser(@Session() db: Session, @Params() { userId }: UserParams): Promise<void> {
    const { affected } = await db.delete(User, { id: userId })
    if (affected === 0) throw new NotFoundError("Not found.")
  }
}
