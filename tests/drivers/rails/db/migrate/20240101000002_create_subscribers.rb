class CreateSubscribers < ActiveRecord::Migration[6.1]
  def change
    create_table :subscribers do |t|
      t.text :email, null: false, index: { unique: true }
    end
  end
end
